//! Each transcript has a cluster of its own.

use milena_testkit::check_each;

use super::script::Script;

#[test]
fn conversations() {
    check_each("", || {
        let mut script = Script::new();
        move |line| script.say(line)
    });
}
