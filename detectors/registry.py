"""The one list of detectors. A detector registers itself where it is defined; the model asks here by name."""

from __future__ import annotations

from importlib import import_module

from detectors.detector import LineDetector

_MODULES = (
    "detectors.rules",
    "detectors.price_history",
    "detectors.quantity_history",
    "detectors.order_consistency",
    "detectors.multivariate",
)
_registered: dict[str, type[LineDetector]] = {}


def register(detector: type[LineDetector]) -> type[LineDetector]:
    """Class decorator: makes a detector known by its name. Raises ValueError if the name is taken."""
    if _registered.get(detector.name, detector).__module__ != detector.__module__:
        raise ValueError(
            f"detector name {detector.name!r} is taken by {_registered[detector.name].__module__}; choose another"
        )
    _registered[detector.name] = detector
    return detector


def detector_names() -> tuple[str, ...]:
    """Names of all detectors, in the order the model asks them; earlier ones win ties."""
    for module in _MODULES:
        import_module(module)
    return tuple(sorted(_registered, key=lambda name: _MODULES.index(_registered[name].__module__)))


def create_detector(name: str) -> LineDetector:
    """A new, unfitted detector. Raises KeyError naming the known ones."""
    names = detector_names()
    if name not in _registered:
        raise KeyError(f"no detector named {name!r}; known: {', '.join(names)}")
    return _registered[name]()
