//! The launcher: a single-threaded process that makes, watches and kills containers.

/// First argument of the program that makes it the launcher.
pub const LAUNCH_ARGUMENT: &str = "__launch";

/// Runs the launcher and ends the process. To be called first of all in `main`, while there is one thread, if the first
/// argument is [`LAUNCH_ARGUMENT`].
pub fn launcher_main() -> ! {
    std::process::exit(2)
}
