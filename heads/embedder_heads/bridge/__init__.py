"""Bridges: linear maps from one space's vectors to another's, so that heads live on while their teams train anew."""
