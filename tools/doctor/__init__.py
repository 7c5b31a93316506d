"""Looking a data folder and its surroundings over: findings, each with its mend, and the mending of the safe ones."""
