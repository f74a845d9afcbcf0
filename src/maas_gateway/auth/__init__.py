"""Who is calling: tokens made and verified, passwords and secrets checked, standing looked up."""
