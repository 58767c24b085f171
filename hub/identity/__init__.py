"""Who is calling: credentials in, a frozen `Principal` out."""
