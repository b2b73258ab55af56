"""Everything that tests cacheserver; nothing outside this directory imports it."""
