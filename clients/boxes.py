"""Object slots over a picture: a box and a number for each one in view, in a colour of its own."""

import numpy as np
import pygame
from numpy.typing import NDArray

IN_VIEW = 0.5  # presence above which a slot shows its object, not the memory of it
Area = tuple[int, int, int, int]  # left, top, width, height of the picture on the screen


def draw_boxes(
    screen: pygame.Surface, font: pygame.font.Font, objects: NDArray[np.float32], area: Area
) -> int:
    """Draw the slots (K, D): x, y of the middle, width, height in parts of the frame, presence, ..
    Returns how many were in view."""
    left, top, width, height = area
    shown = 0
    for slot, (x, y, wide, high, presence) in enumerate(objects[:, :5].tolist()):
        if presence <= IN_VIEW:
            continue
        colour = pygame.Color(0)
        colour.hsva = (slot * 137 % 360, 80, 100, 100)
        box = pygame.Rect(0, 0, max(2, round(wide * width)), max(2, round(high * height)))
        box.center = (left + round(x * width), top + round(y * height))
        pygame.draw.rect(screen, colour, box, width=1)
        screen.blit(font.render(str(slot), True, colour), box.topleft)
        shown += 1
    return shown
