"""What others change in what was deployed: found by watches, told to the relay, and put right where that is wanted."""
