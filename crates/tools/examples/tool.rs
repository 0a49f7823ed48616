//! Runs one tool by its name: `cargo run -p milena-tools --example tool -- kafka-topics --help`.

fn main() {
    let mut args = std::env::args_os().skip(1);
    let name = args.next().unwrap_or_default();
    std::process::exit(milena_tools::run(&name.to_string_lossy(), args.collect()));
}
