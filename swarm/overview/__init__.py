"""What a group serves at one moment, for whoever shows it: status, pages, other programs."""

from .gap import Gap, Ranges, gaps, replication
from .holder import Holder
from .overview import Overview
from .served_model import ServedModel

__all__ = ["Gap", "Holder", "Overview", "Ranges", "ServedModel", "gaps", "replication"]
