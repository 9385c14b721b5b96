"""The firmware's version, the one place that states it (host tools and package read it here)."""

VERSION = "0.4.0"
