//! What walks and sequences have found, and was mended: each as short as it can be told.

use std::time::Duration;

use super::actors::Living;
use super::oracle::Seen;
use super::sequences::check_cut;
use super::verbs::Verb;
use super::world::World;
use crate::simulated::{Ends, on};

/// A daemon on a new spool, all of which is on disk.
fn begun(verbs: &[Verb]) -> World {
    let mut world = World::new();
    world.start_daemon().expect("because nobody is killed");
    verbs.iter().for_each(|verb| world.act(*verb).expect("because nobody is killed"));
    on(|machine| machine.tree.sync_all());
    world
}

/// Brings all to its end, and checks it.
fn check(world: &mut World) {
    world.finish().expect("because nobody is killed");
    world.check(&Seen::default(), &[]).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn a_task_that_ends_in_a_batch_is_not_made_anew_by_a_repeat_of_its_submit_in_that_batch() {
    let mut world = begun(&[Verb::SubmitHeld]);
    for verb in [Verb::CancelHeld, Verb::SubmitAgain] {
        world.begin(verb).expect("because nobody is killed");
    }
    check(&mut world);
}

#[test]
fn a_folder_whose_maker_was_killed_before_it_was_on_disk_is_there_after_a_power_cut() {
    for step in 0..40 {
        let mut world = begun(&[]);
        let ends = Ends { step: on(|machine| machine.steps) + step, half: false };
        on(|machine| machine.ends = Some(ends));
        let killed = world.act(Verb::Submit).is_err();
        on(|machine| machine.ends = None);
        if killed && world.daemon.is_none() {
            world.start_daemon().expect("because nobody is killed");
            world.settle().expect("because nobody is killed");
        }
        check_cut(&mut world, 8).unwrap_or_else(|problem| panic!("killed at {step}: {problem}"));
    }
}

#[test]
fn a_receipt_that_loses_its_name_while_a_checkpoint_is_written_is_on_disk() {
    let mut world = begun(&[]);
    let decide = |world: &mut World| {
        world.as_daemon(Living::look).expect("because nobody is killed");
        world.step_daemon().expect("because nobody is killed");
    };
    world.begin(Verb::SameName).expect("because nobody is killed");
    decide(&mut world);
    on(|machine| machine.pass(Duration::from_secs(3)));
    // The checkpoint's thread has its job now.
    decide(&mut world);
    world.begin(Verb::SameName).expect("because nobody is killed");
    decide(&mut world);
    assert!(world.step_checkpoint().expect("because nobody is killed"), "a checkpoint was due");
    check_cut(&mut world, 200).unwrap_or_else(|problem| panic!("{problem}"));
}
