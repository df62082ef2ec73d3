"""Every figure of the course, one module per notebook. A figure function takes plain data and returns a Figure."""

from .style import bundle, png, show

__all__ = ["bundle", "png", "show"]
