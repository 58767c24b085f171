"""Who did what with which outcome: appended before the answer leaves, indexed later."""
