"""Costs of a search space as one vectorised, differentiable function; see `function`."""

from costmodel.costfunction.function import CostFunction, Costs, cost_function

__all__ = ["CostFunction", "Costs", "cost_function"]
