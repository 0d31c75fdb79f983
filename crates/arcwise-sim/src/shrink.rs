//! Makes a failing simulation smaller, so that what is wrong can be seen.

use std::time::Duration;

use crate::scenario::{Network, Others, Scenario, Span};

/// A length that is shorter says nothing any more.
const SHORTEST: Duration = Duration::from_secs(300);

/// With another scenario a seed means something else, so a few are tried.
const SEEDS: u64 = 3;

/// Makes a scenario smaller as long as it fails, and gives the smallest with the seed it fails with.
///
/// `fails` runs one and says whether it does. It is asked for each of some twenty ways to be smaller, again and
/// again until none of them fails any more: fewer nodes, a shorter time, fewer events, less that goes wrong.
pub fn shrink(
    scenario: &Scenario,
    seed: u64,
    fails: &mut dyn FnMut(&Scenario, u64) -> bool,
) -> (Scenario, u64) {
    let (mut smallest, mut seed) = (scenario.clone(), seed);
    loop {
        let smaller: Vec<Scenario> =
            smaller(&smallest).into_iter().filter(|it| it.check().is_ok()).collect();
        // Other seeds only where this one leads no further.
        let seeds = std::iter::once(seed).chain(1..=SEEDS);
        let found = seeds.flat_map(|seed| smaller.iter().map(move |it| (it, seed)));
        let found = found.into_iter().find(|(it, seed)| fails(it, *seed));
        let found = found.map(|(it, seed)| (it.clone(), seed));
        match found {
            Some(found) => (smallest, seed) = found,
            None => return (smallest, seed),
        }
    }
}

/// Scenarios that have less of something, those that save most first.
fn smaller(of: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut it = of.clone();
        change(&mut it);
        if it != *of {
            all.push(it);
        }
    };
    with(&|it| it.nodes = (it.nodes / 2).max(2));
    with(&|it| it.nodes = (it.nodes * 3 / 4).max(2));
    with(&|it| halve(it));
    for event in 0..of.events.len() {
        with(&|it| {
            it.events.remove(event);
        });
    }
    with(&|it| it.people.entries /= 2);
    with(&|it| it.people.session = None);
    with(&|it| it.others = Others::default());
    with(&|it| it.people.asking = 0.0);
    with(&|it| it.people.publishing = 0.0);
    with(&|it| it.people.publishing = it.people.publishing.min(10.0));
    with(&|it| it.people.receipts = 0);
    with(&|it| it.people.for_good = 0.0);
    with(&|it| it.people.skew = Span::secs(0));
    with(&|it| it.disk.limited = 0.0);
    with(&|it| it.network.loss = 0.0);
    with(&|it| it.network.duplicates = 0.0);
    with(&|it| it.network.jitter = Span::secs(0));
    with(&|it| it.network.unreachable = 0.0);
    with(&|it| (it.network.up, it.network.down) = (0.0, 0.0));
    with(&|it| it.network.latency = Network::default().latency);
    all
}

/// Half as long, with all that happens.
fn halve(it: &mut Scenario) {
    if it.length.0 / 2 < SHORTEST {
        return;
    }
    it.length = Span(it.length.0 / 2);
    it.quiet = Span(it.quiet.0.min(it.length.0 / 3));
    it.events.iter_mut().for_each(|event| event.at = Span(event.at.0 / 2));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Event, What};

    fn scenario() -> Scenario {
        let text = "name = \"x\"\nabout = \"y\"\nnodes = 200\nlength = \"1h\"\n";
        let mut scenario = Scenario::parse(text).unwrap();
        for minutes in [10, 20, 30] {
            let at = Span::secs(minutes * 60);
            scenario.events.push(Event { at, what: What::Lose { part: 0.1 } });
        }
        scenario
    }

    #[test]
    fn what_is_not_needed_goes() {
        let mut runs = 0;
        let (smallest, seed) = shrink(&scenario(), 7, &mut |it, _| {
            runs += 1;
            it.nodes >= 20 && it.events.len() == 1 && it.network.loss > 0.0
                || it.events.len() > 1 && it.nodes >= 20
        });
        assert_eq!((smallest.events.len(), seed), (1, 7));
        assert!((20..40).contains(&smallest.nodes), "{}", smallest.nodes);
        assert!(smallest.network.loss > 0.0 && smallest.network.duplicates == 0.0);
        assert!(smallest.people.entries == 0 && smallest.length.0 <= Duration::from_secs(600));
        assert!(runs < 200, "{runs}");
    }

    #[test]
    fn another_seed_will_do() {
        let fails_with_two = &mut |it: &Scenario, seed| seed == 2 || it.nodes == 200;
        let (smallest, seed) = shrink(&scenario(), 9, fails_with_two);
        assert_eq!((smallest.nodes, seed), (2, 2));
    }

    #[test]
    fn what_cannot_be_smaller_stays() {
        let scenario = scenario();
        assert_eq!(shrink(&scenario, 3, &mut |_, _| false), (scenario, 3));
    }
}
