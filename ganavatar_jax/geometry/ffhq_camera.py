"""The camera of FFHQ crops as EG3D labels them, which heads are brought in front of.

Light to import: configs take their defaults from here.

Source: EG3D dataset format.
"""

RADIUS = 2.7  # Distance from the world origin, world units.
FOCAL = 4.2647  # Focal length divided by the image side.
EXTENT = round(RADIUS / FOCAL, 3)  # Side of what it shows at the origin's distance, world units.
