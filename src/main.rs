//! Parses the arguments, calls the command, and turns the outcome into an exit code.

fn main() {}
