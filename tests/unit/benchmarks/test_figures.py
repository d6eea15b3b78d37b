"""Every figure that `make figures` lists can be measured."""

import importlib
import pkgutil

import pytest

from tests import benchmarks
from tests.benchmarks.__main__ import FIGURES, find_figure

NAMES = [name for figures in FIGURES.values() for name in figures]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_a_module_that_measures_it(name: str) -> None:
    assert callable(find_figure(name))


@pytest.mark.parametrize("folder", FIGURES)
def test_every_module_of_a_folder_is_a_figure(folder: str) -> None:
    package = importlib.import_module(f"{benchmarks.__name__}.{folder}")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules == {name.replace("-", "_") for name in FIGURES[folder]}
