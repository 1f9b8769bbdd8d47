"""Real samples to measure with.

A *source* yields raw arrays (:class:`~assay.controller.datasets.base.RawDataset`): Fashion-MNIST, a
pair of IDX files, an .npz file. :func:`~assay.controller.datasets.splits.publish` turns them into
splits held by digest and a :class:`~assay.controller.records.DatasetRecord`. The bytes of a split
depend on the data and the seed alone, so that every machine names it by the same digest.
"""
