use crate::world::World;

fn check(folder: &str) {
    milena_testkit::check_each(folder, || {
        let mut world = World::new();
        move |line: &str| world.command(line)
    });
}

#[test]
fn a_lone_voter() {
    check("alone");
}

#[test]
fn several_voters() {
    check("quorum");
}

#[test]
fn voters_come_and_go() {
    check("voters");
}
