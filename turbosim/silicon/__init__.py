"""What a GPU takes to make: area of its dies, and cost of dies, memory and package.

Both follow from the hardware file and from ``hwconfigs/silicon/``, whose numbers have their sources, and neither
matters to a simulation. :func:`~turbosim.silicon.area.area_of` says what is known of a die and what is not.
"""

from turbosim.silicon.area import Area, Part, area_of, area_of_gpu
from turbosim.silicon.cost import Cost, cost_of, cost_of_gpu

__all__ = ["Area", "Cost", "Part", "area_of", "area_of_gpu", "cost_of", "cost_of_gpu"]
