"""The live side of servers: connections, eras, health."""
