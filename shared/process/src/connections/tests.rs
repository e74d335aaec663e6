use super::*;
use std::net::Ipv4Addr;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn connections() -> Arc<Connections> {
    let limits = ConnectionLimits {
        max_connections: 3,
        max_connections_per_address: 2,
        max_strangers: 2,
        max_streams_per_connection: 2,
        max_streams_per_address: 3,
        first_request: Duration::from_millis(100),
        idle: Duration::from_millis(200),
    };
    Connections::new(limits, Counter::default())
}

fn ended(guest: &Guest) -> bool {
    guest.peer().end.is_cancelled()
}

#[test]
fn the_oldest_stranger_gives_way_and_who_is_known_stays() {
    let connections = connections();
    let known = connections.admit(HERE, None);
    known.peer().note_known();
    let [first, second, third] = [0; 3].map(|_| connections.admit(HERE, None));
    assert_eq!([&known, &first, &second, &third].map(ended), [false, true, false, false]);
    assert_eq!(connections.turned_away.get(), 1);
    drop((first, second, third));
    assert!(connections.table().strangers.is_empty());
}

#[test]
fn a_stranger_with_much_open_gives_way_first() {
    let connections = connections();
    let (modest, costly) = (connections.admit(HERE, None), connections.admit(HERE, None));
    let _open = [0; MAX_TURNS + 1].map(|_| costly.peer().begin());
    let _modest = [0; MAX_TURNS].map(|_| modest.peer().begin());
    let _newest = connections.admit(HERE, None);
    assert_eq!([&modest, &costly].map(ended), [false, true]);
}

#[tokio::test]
async fn a_stranger_waits_for_its_turn_until_it_is_known() {
    let guest = connections().admit(HERE, None);
    let mut open = Vec::new();
    for _ in 0..MAX_TURNS {
        let mut request = guest.peer().begin();
        request.turn().await;
        open.push(request);
    }
    let mut next = guest.peer().begin();
    let waits = tokio::time::timeout(Duration::from_millis(50), next.turn()).await;
    assert!(waits.is_err());
    let known = async { guest.peer().note_known() };
    tokio::join!(next.turn(), known);
    assert_eq!(open.len(), MAX_TURNS);
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let connections = connections();
    let guests = [0; 3].map(|_| {
        let guest = connections.admit(HERE, None);
        guest.peer().note_known();
        guest.peer().note_known();
        guest
    });
    assert_eq!(guests.each_ref().map(ended), [false, false, true]);
    drop(guests);
    let table = connections.table();
    assert_eq!((table.known, table.addresses.len()), (0, 0));
}

#[test]
fn streams_are_limited_on_a_connection_and_for_an_address() {
    let connections = connections();
    let (one, other) = (connections.admit(HERE, None), connections.admit(HERE, None));
    let held = [one.peer().open_stream(), one.peer().open_stream(), other.peer().open_stream()];
    assert!(held.iter().all(Result::is_ok));
    assert!(one.peer().open_stream().is_err() && other.peer().open_stream().is_err());
    drop(held);
    assert!(one.peer().open_stream().is_ok());
    assert!(connections.table().addresses.is_empty());
}

#[test]
fn a_stranger_that_breaks_off_all_it_begins_is_ended() {
    let guest = connections().admit(HERE, None);
    for _ in 0..MAX_BROKEN_OFF {
        drop(guest.peer().begin());
    }
    assert!(!ended(&guest));
    drop(guest.peer().begin());
    assert!(ended(&guest));
}

#[tokio::test]
async fn who_asks_for_nothing_is_overdue_and_who_waits_for_an_answer_is_not() {
    let guest = connections().admit(HERE, None);
    let begun = Instant::now();
    guest.peer().is_overdue().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "it was not answered");

    let guest = connections().admit(HERE, None);
    let mut request = guest.peer().begin();
    request.answered();
    let ends = async {
        sleep(Duration::from_secs(1)).await;
        drop(request);
        Instant::now()
    };
    let ((), ended_at) = tokio::join!(guest.peer().is_overdue(), ends);
    assert!(ended_at.elapsed() >= Duration::from_millis(150), "{:?}", ended_at.elapsed());
}
