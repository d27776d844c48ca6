"""The only part that knows Nion Swift: it translates and never computes."""
