//! The gitspool program; everything is in the library.

fn main() -> std::process::ExitCode {
    gitspool::main()
}
