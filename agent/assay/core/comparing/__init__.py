"""Whether two things differ: pure, shared by the controller and by ``assay-agent bench A B``."""
