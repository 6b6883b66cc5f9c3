"""Attention, which the paper compares lambdas with: global, axial, local and linear."""
