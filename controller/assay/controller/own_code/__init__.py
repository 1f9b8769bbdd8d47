"""Code of the user's own: named here, loaded and called only in a process of its own.

:mod:`~assay.controller.own_code.reference` names it; :mod:`~assay.controller.own_code.load` runs in
that process and turns whatever the code does into an error that says so.
"""
