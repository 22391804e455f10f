"""Logs of other programs as exchanges: what they tell is looked at by the usual providers, the rest is *not recorded*."""
