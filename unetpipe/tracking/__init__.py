"""Objects of frames linked to tracks: where each goes, and what it descends from."""
