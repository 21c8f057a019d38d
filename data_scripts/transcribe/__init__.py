"""Speech recognition for prepared folders."""
