"""The main job on real data, from nothing to a report: what ``make demo`` runs."""
