//! Runs one tool by its name: `cargo run -p milena-tools --example tool -- kafka-topics --help`.

fn main() {
    let mut args = std::env::args_os().skip(1);
    let name = args.next().unwrap_or_default();
    let status = milena_tools::run(&name.to_string_lossy(), args.collect());
    std::process::exit(status.unwrap_or_else(|| {
        let names: Vec<&str> = milena_tools::names().collect();
        eprintln!("{} is none of: {}", name.display(), names.join(", "));
        2
    }));
}
