//! What a power cut may leave of a file system: each state that is legal when there are few, else the extremes and some
//! that are drawn by lot.
//!
//! A state is a choice of the changes of entries that survive, and for each file of what was written since it was synced.
//! Of that nothing may be left, all, the first half, zeros in its place, or zeros in the place of the first half.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use sha2::{Digest, Sha256};

use super::lot::Lot;
use super::tree::{Change, Node, Number, Tree, What, with_earlier};

/// What is left of what was written to a file since it was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    All,
    FirstHalf,
    Zeros,
    LastHalf,
}

/// Of a file that is longer than this its length and its beginning are looked at, to tell it from others.
const LONG: usize = 100 * 1024;

const LEFT: [Left; 5] = [Left::Nothing, Left::All, Left::FirstHalf, Left::Zeros, Left::LastHalf];

/// The states that a power cut may leave.
pub(crate) struct Cut {
    pub(crate) states: Vec<Tree>,
    /// Whether they are all that there are, with the ways in which a file may be torn that are told above.
    pub(crate) is_all: bool,
}

impl Tree {
    /// What a power cut may leave now: at most `states_max`, each but once.
    pub(crate) fn cut(&self, states_max: usize, lot: &mut Lot) -> Cut {
        let (mut choices, mut is_all) = survivors(&self.pending, states_max);
        // Those that are left out are drawn by lot; that none and that all survive are looked at always.
        while choices.len() > states_max.max(2) {
            is_all = false;
            choices.swap_remove(2 + lot.below(choices.len() - 2));
        }
        let mut states = BTreeMap::new();
        let mut add = |tree: Tree| drop(states.insert(tree.hash(), tree));
        for survive in &choices {
            let entries = self.with_entries(survive);
            let dirty = entries.dirty();
            let ways = u32::try_from(dirty.len()).ok().and_then(|files| LEFT.len().checked_pow(files));
            let ways = ways.filter(|ways| ways.saturating_mul(choices.len()) <= states_max);
            is_all &= ways.is_some();
            for way in 0..ways.unwrap_or_default() {
                add(entries.with_contents(&dirty, |place| LEFT[digit(way, place)]));
            }
            for left in LEFT.iter().take(if ways.is_none() { LEFT.len() } else { 0 }) {
                if choices.len() * LEFT.len() <= states_max || matches!(left, Left::Nothing | Left::All) {
                    add(entries.with_contents(&dirty, |_| *left));
                }
            }
        }
        let drawn = if is_all { 0 } else { states_max / 2 };
        for _ in 0..drawn {
            let survive = lot.one_of(&choices).clone();
            let wanted = survive.into_iter().filter(|_| !lot.one_in(6)).collect();
            let entries = self.with_entries(&closed(&self.pending, &wanted));
            let dirty = entries.dirty();
            let left: Vec<Left> = dirty.iter().map(|_| *lot.one_of(&LEFT)).collect();
            add(entries.with_contents(&dirty, |place| left[place]));
        }
        let mut states: Vec<Tree> = states.into_values().collect();
        while states.len() > states_max {
            is_all = false;
            states.swap_remove(lot.below(states.len()));
        }
        Cut { states, is_all }
    }

    /// The tree with these of the changes on disk, and the others never made.
    fn with_entries(&self, survive: &BTreeSet<usize>) -> Tree {
        let mut tree = self.clone();
        for change in
            self.pending.iter().enumerate().filter(|(at, _)| survive.contains(at)).map(|(_, change)| change)
        {
            tree.put_on_disk(change);
        }
        tree.pending.clear();
        for node in tree.nodes.values_mut() {
            if let What::Folder { now, synced } = &mut node.what {
                *now = Rc::clone(synced);
            }
        }
        tree.forget(&BTreeSet::new());
        tree
    }

    /// The files that were written to since they were synced.
    fn dirty(&self) -> Vec<Number> {
        let is_dirty = |node: &Node| matches!(&node.what, What::File { now, synced } if now != synced);
        self.nodes.iter().filter(|(_, node)| is_dirty(node)).map(|(number, _)| *number).collect()
    }

    fn with_contents(&self, dirty: &[Number], left: impl Fn(usize) -> Left) -> Tree {
        let mut tree = self.clone();
        for (place, number) in dirty.iter().enumerate() {
            let Some(Node { what: What::File { now, synced }, .. }) = tree.nodes.get_mut(number) else {
                continue;
            };
            *now = Rc::new(torn(synced, now, left(place)));
            *synced = Rc::clone(now);
        }
        tree
    }

    /// A number for what can be read: the same for the same names and contents.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = Sha256::new();
        for (path, bytes) in self.files() {
            hasher.update(path.as_bytes());
            hasher.update((bytes.len() as u64).to_be_bytes());
            // What was reserved is long, and all zeros.
            let looked_at = if bytes.len() > LONG { 1024 } else { bytes.len() };
            hasher.update(&bytes[..looked_at]);
        }
        hasher.finalize().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }
}

/// The digit at a place of a number that is written with as many digits as there are ways to tear a file.
fn digit(number: usize, place: usize) -> usize {
    number / LEFT.len().pow(u32::try_from(place).expect("because there are few files")) % LEFT.len()
}

/// What may be left of a file that was `synced` and is `now`.
fn torn(synced: &[u8], now: &[u8], left: Left) -> Vec<u8> {
    let same = synced.iter().zip(now).take_while(|(synced, now)| synced == now).count();
    let (kept, new) = now.split_at(same);
    let half = new.len() / 2;
    match left {
        Left::Nothing => synced.to_vec(),
        Left::All => now.to_vec(),
        Left::FirstHalf => [kept, &new[..half]].concat(),
        Left::Zeros => [kept, &vec![0; new.len()]].concat(),
        Left::LastHalf => [kept, &vec![0; half], &new[half..]].concat(),
    }
}

/// The choices of changes that may survive, and whether these are all. When they are more than `choices_max`: none, all,
/// those up to each, all but each, and each by itself.
fn survivors(pending: &[Rc<Change>], choices_max: usize) -> (Vec<BTreeSet<usize>>, bool) {
    let count = pending.len();
    if count < 16 && 1_usize << count <= choices_max.max(16) {
        let of_bits = |bits: usize| (0..count).filter(|at| bits >> at & 1 == 1).collect::<BTreeSet<usize>>();
        let all: Vec<BTreeSet<usize>> = (0..1_usize << count).map(of_bits).collect();
        let legal = all.into_iter().filter(|some| closed(pending, some).len() == some.len());
        return (none_and_all_first(legal.collect(), count), true);
    }
    let mut choices = BTreeSet::new();
    for at in 0..count {
        choices.insert((0..=at).collect());
        choices.insert(closed(pending, &(0..count).filter(|other| *other != at).collect()));
        choices.insert(with_earlier(pending, |change| std::ptr::eq(change, &raw const *pending[at])));
    }
    (none_and_all_first(choices.into_iter().collect(), count), false)
}

fn none_and_all_first(mut choices: Vec<BTreeSet<usize>>, count: usize) -> Vec<BTreeSet<usize>> {
    choices.retain(|some| (1..count).contains(&some.len()));
    let mut all = vec![BTreeSet::new()];
    all.extend((count > 0).then(|| (0..count).collect()));
    all.append(&mut choices);
    all
}

/// Those of the changes that can survive without others than these.
fn closed(pending: &[Rc<Change>], some: &BTreeSet<usize>) -> BTreeSet<usize> {
    let mut missing = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for (at, change) in pending.iter().enumerate() {
        let names: Vec<_> = change.sets.iter().map(|(folder, name, _)| (*folder, name)).collect();
        if some.contains(&at) && names.iter().all(|name| !missing.contains(name)) {
            kept.insert(at);
        } else {
            missing.extend(names);
        }
    }
    kept
}
