"""The report: one HTML page of a profile's or a suite's runs that opens from disk without a network."""
