"""Empathy-R1 kit: the library behind the notebooks. Modules are small and flat; import the one you need."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = Path(__file__).resolve().parent / "bundled"
