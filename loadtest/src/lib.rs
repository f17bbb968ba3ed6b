//! Measures Odeum against the systems it stands beside.
