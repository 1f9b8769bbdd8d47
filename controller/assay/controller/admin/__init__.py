"""Running the controller: one set of verbs, on the home or over the wire, all of them audited.

:class:`~assay.controller.admin.office.Office` holds the rules and works on a store;
:class:`~assay.controller.admin.remote.RemoteOffice` asks a controller elsewhere for the same.
"""
