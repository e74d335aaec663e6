//! Effects of actions: what the transactions of `campaign-service/src/app` do with the domain's decisions.

use crate::model::{Break, Dispatch};
use crate::promises;
use crate::world::{
    Ask, Attempt, CONTACTS, Deciding, GIVE_BACKS, Known, LEASE_TTL_TICKS, Lease, World, hours,
    open_until, retry,
};
use campaign_domain::Instant;
use campaign_domain::dispatch::{Decision, Terms, admit, decide, expire, objection, settle};
use campaign_domain::facts::{CallOutcome, Fact};
use campaign_domain::history::{ContactState, Recording};
use campaign_domain::lease::{AttemptId, Slot, Slots};
use campaign_domain::lifecycle::{Command, Plan, State, transition};
use campaign_domain::settings::LaunchSettings;
use chrono::TimeDelta;

impl Dispatch {
    /// Decides as `Dispatch::authorize` does. The second value tells whether the contact waits again.
    pub fn decide(&self, world: &World, ask: Ask) -> (Decision, bool) {
        let held = world.leases.iter().find(|lease| lease.number == ask.lease);
        let Some(lease) = held else { return (Decision::LeaseLost, false) };
        let terms = self.terms(lease);
        let mut campaign = world.campaign();
        if self.has(Break::StateNotAsked) {
            campaign.state = State::Running;
        }
        let campaign = match admit(&terms, Some(&campaign), world.now) {
            Ok(campaign) => campaign,
            Err(decision) => return (decision, false),
        };
        let slot = lease.slots.get(ask.slot);
        let is_as_judged = terms.is_as_judged(world.revision, world.now);
        let judge = || {
            let contact = lease.contacts[ask.slot];
            let candidate = world.candidate(contact);
            let hours = hours(contact, world.now);
            let found = objection(&campaign.rules(), Some(&candidate), hours, world.now);
            found.filter(|_| !self.has(Break::ContactNotJudged))
        };
        if self.has(Break::SlotGrantedTwice) && slot == Some(Slot::Authorized) {
            return (Decision::Granted, false);
        }
        let (decision, waits_until) = decide(slot, is_as_judged, judge);
        (decision, waits_until.is_some())
    }

    fn terms(&self, lease: &Lease) -> Terms {
        let mut terms = lease.terms;
        if self.has(Break::ExpiryNotAsked) {
            terms.expires_at = Instant::MAX_UTC;
        }
        if self.has(Break::HoursNotAsked) {
            terms.judged_until = Instant::MAX_UTC;
        }
        terms
    }

    pub fn commit(&self, world: &mut World, index: usize) {
        let Deciding { ask, decision, waits_again } = world.deciding.remove(index);
        // The lease was locked when the decision was made.
        let Some(lease) = world.leases.iter_mut().find(|lease| lease.number == ask.lease) else {
            return;
        };
        let (contact, worker, run) = (lease.contacts[ask.slot], lease.worker, lease.terms.run);
        let is_settled = settle(&mut lease.slots, ask.slot, decision);
        if decision != Decision::Granted {
            world.is_waiting[contact] |= is_settled && waits_again;
            return;
        }
        if !is_settled && !self.has(Break::SlotGrantedTwice) {
            return;
        }
        let id = AttemptId { run, lease: ask.lease, slot: ask.slot };
        promises::note_grant(world, id, contact);
        if is_settled {
            world.attempts.push(Attempt {
                id,
                contact,
                worker,
                has_rung: false,
                recorded: None,
                is_given_back: false,
            });
        }
    }

    pub fn purge(&self, world: &mut World, contact: usize) {
        let generation = world.campaign().epoch.generation;
        let state = world.contacts[contact].0.clone();
        let is_old = state.epoch.generation < generation;
        world.contacts[contact] = if is_old && self.has(Break::ResetForgetsCalls) {
            Known(ContactState::default())
        } else {
            Known(state.after_reset(generation, world.now))
        };
    }

    pub fn opt_out(&self, world: &mut World, contact: usize) {
        let fact = Fact::OptedOut { channel: String::new(), everywhere: false };
        world.record(contact, &fact, None);
        if !self.has(Break::RefusalKeepsRevision) {
            world.revision += 1;
        }
        world.seen.refused[contact] = true;
    }

    /// Takes an expired lease back as `Facts::expire_lease` does.
    pub fn expire(&self, world: &mut World, index: usize) {
        let lease = world.leases[index].clone();
        let expiry = expire(&lease.slots);
        for slot in expiry.given_back {
            world.leases[index].slots.advance(slot, Slot::Closed);
            world.give_back(lease.contacts[slot], lease.terms.run, self.broken);
        }
        for slot in expiry.unknown {
            let id = AttemptId { run: lease.terms.run, lease: lease.number, slot };
            let attempt = world.attempts.iter().position(|attempt| attempt.id == id);
            let attempt = attempt.expect("an authorised slot has an attempt");
            let contact = world.attempts[attempt].contact;
            promises::note_unknown(world, contact);
            if self.has(Break::UnknownRetriedAtOnce) {
                world.is_waiting[contact] = true;
                world.attempts[attempt].recorded = Some(CallOutcome::Unknown);
            } else {
                world.end(attempt, CallOutcome::Unknown, None);
            }
        }
        world.leases.remove(index);
    }
}

impl World {
    pub fn lease(&mut self, worker: usize, contacts: [bool; CONTACTS]) {
        let contacts: Vec<usize> = (0..CONTACTS).filter(|contact| contacts[*contact]).collect();
        for contact in &contacts {
            self.is_waiting[*contact] = false;
        }
        self.leases_given += 1;
        self.leases.push(Lease {
            number: i64::try_from(self.leases_given).expect("few leases"),
            worker,
            slots: Slots::new(contacts.len()),
            terms: Terms {
                run: self.run,
                expires_at: self.now + TimeDelta::seconds(LEASE_TTL_TICKS),
                judged_revision: self.revision,
                judged_until: open_until(&contacts, self.now),
            },
            contacts,
        });
    }

    /// Puts a contact back where its run finds it. A newer run finds it by its own frontier.
    fn give_back(&mut self, contact: usize, run: i32, broken: Option<Break>) {
        let next = self.campaign().rules().next_attempt(&self.candidate(contact), self.now);
        if run == self.run && next.is_some() && broken != Some(Break::GivenBackNowhere) {
            self.is_waiting[contact] = true;
        }
    }

    pub fn record(
        &mut self,
        contact: usize,
        fact: &Fact,
        of: Option<(AttemptId, Option<CallOutcome>)>,
    ) {
        let epoch = self.campaign().epoch;
        let at = Recording {
            epoch,
            run: self.run,
            fact_epoch: of.map_or(epoch, |(id, _)| self.campaign_in(id.run).epoch),
            replaces: of.and_then(|(_, replaces)| replaces),
            call: of.map(|(id, _)| id.slot_id()),
            retry: &retry(),
            give_backs: GIVE_BACKS,
            now: self.now,
        };
        self.contacts[contact].0 = self.contacts[contact].0.clone().after(fact, &at);
    }

    /// Records the end of an attempt once; the real end replaces UNKNOWN.
    pub fn end(&mut self, index: usize, outcome: CallOutcome, broken: Option<Break>) {
        let attempt = self.attempts[index];
        let replaces = attempt.recorded;
        if replaces.is_some_and(|recorded| !recorded.gives_way_to(outcome, false)) {
            return;
        }
        let lease = self.leases.iter_mut().find(|lease| lease.number == attempt.id.lease);
        if replaces.is_none()
            && !lease.is_some_and(|lease| lease.slots.advance(attempt.id.slot, Slot::Ended))
        {
            return;
        }
        self.attempts[index].recorded = Some(outcome);
        match (outcome, replaces) {
            (CallOutcome::Congested, None) => promises::note_given_back(self, index),
            (_, Some(_)) => promises::note_known(self, attempt.contact),
            _ => {}
        }
        let recorded = match outcome {
            CallOutcome::Congested if broken == Some(Break::GiveBackCounts) => CallOutcome::Failed,
            outcome => outcome,
        };
        self.record(attempt.contact, &Fact::ended(recorded), Some((attempt.id, replaces)));
        if broken == Some(Break::GiveBackAtOnce) && outcome == CallOutcome::Congested {
            self.contacts[attempt.contact].0.due_at = None;
        }
        if replaces.is_none() {
            self.give_back(attempt.contact, attempt.id.run, None);
        }
    }

    /// Launches the next run. Its frontier has all contacts ahead.
    pub fn relaunch(&mut self, settings: LaunchSettings) {
        let plan = Plan::default();
        let state = transition(self.state, Command::Launch, &plan, self.now);
        let contacts = i64::try_from(CONTACTS).expect("few contacts");
        let next = self.campaign().launched(state.expect("it is over"), settings, contacts);
        (self.state, self.run) = (next.state, next.run);
        self.is_waiting = [true; CONTACTS];
        promises::note_launch(self);
    }
}
