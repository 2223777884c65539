"""A table's cells derived again from the evidence behind them."""
