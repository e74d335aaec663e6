//! Keys of erasures: a missing key is noticed, and keys change.

use super::*;

/// Returns the error of a service that does not start with these arguments.
async fn refusal(db: &TestDb, args: &[&str]) -> String {
    let mut command = processes::campaign_service();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log", "error"]).args(args);
    command.env("DATABASE_URL", &db.url).stderr(std::process::Stdio::piped());
    let mut service = Program::start(&mut command).unwrap();
    let ended = service.until_ended(PATIENCE).await;
    assert!(!ended.unwrap_or_else(|_| panic!("it serves with {args:?}")).success());
    std::io::read_to_string(service.take_stderr().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_or_none_is_refused_once_somebody_was_erased() {
    let db = TestDb::new().await;
    let folder = Folder::new();
    let key = folder.write("erasure.key", std::str::from_utf8(KEY).unwrap());
    let other = folder.write("other.key", &"another ".repeat(8));
    let short = folder.write("short.key", &"x".repeat(31));
    // This replica began before the key, as in a rolling change of flags. It cannot tell who was erased, so it rejects
    // everyone.
    let without = Service::start(&db).await;
    let mut keyless = without.clients.clone();
    let wrong = Options { eraser: Some(Eraser::new(&[7; 32]).unwrap()), ..test_options() };
    let wrong = Service::start_with(&db, wrong).await;
    let status = try_to_erase(&mut keyless).await.unwrap_err();
    assert_eq!(reason(&status), "ERASURE_KEY_NOT_SET");
    assert!(status.message().contains("--erasure-key-file"), "{status:?}");
    let name = campaign(&mut keyless).await;
    let (service, mut clients) = replica(&db, &folder).await;
    let named = v1::ErasePersonRequest {
        phone_number: phone(PERSON),
        reason: format!("{} wrote", phone(PERSON)),
        ..Default::default()
    };
    let status = clients.contacts.erase_person(named).await.unwrap_err();
    assert_eq!(bad_fields(&status), ["reason"]);
    assert_eq!(erase(&mut clients).await.contacts_erased, 1);
    drop(service);
    for clients in [&mut keyless, &mut wrong.clients.clone()] {
        let status = create(clients, &name).await.unwrap_err();
        assert_eq!(reason(&status), "ERASURE_KEY_WRONG");
        assert!(try_to_erase(clients).await.is_err());
    }
    for args in [&[][..], &["--erasure-key-file", other.to_str().unwrap()]] {
        let said = refusal(&db, args).await;
        assert!(said.contains("people were erased under another key"), "{said}");
        assert!(said.contains("--erasure-key-file"), "{said}");
    }
    let said = refusal(&db, &["--erasure-key-file", short.to_str().unwrap()]).await;
    assert!(said.contains("at least 32 bytes"), "{said}");
    assert!(key.exists());
    let (_service, mut clients) = replica(&db, &folder).await;
    assert_eq!(reason(&create(&mut clients, &name).await.unwrap_err()), "PERSON_ERASED");
}

/// Two replicas change keys one after the other, in the README's order.
#[tokio::test(flavor = "multi_thread")]
async fn keys_change_and_whoever_was_erased_before_stays_known() {
    let db = TestDb::new().await;
    let folder = Folder::new();
    let old = folder.write("old.key", std::str::from_utf8(KEY).unwrap());
    let new = folder.write("new.key", &"newer than ".repeat(4));
    let keys = |first: &PathBuf, second: &PathBuf| {
        format!("{},{}", first.to_str().unwrap(), second.to_str().unwrap())
    };
    let (service, mut clients) = replica_with(&db, old.to_str().unwrap()).await;
    let name = campaign(&mut clients).await;
    erase(&mut clients).await;
    drop(service);
    // The new key is known and not used yet, beside a replica that does not know it.
    let (_first, mut first) = replica_with(&db, &keys(&old, &new)).await;
    let (second, mut second_clients) = replica_with(&db, old.to_str().unwrap()).await;
    let erase_another = async |clients: &mut Clients, n: usize| {
        let request = v1::ErasePersonRequest { phone_number: phone(n), ..Default::default() };
        clients.contacts.erase_person(request).await.unwrap();
    };
    erase_another(&mut first, 51).await;
    assert_eq!(reason(&create(&mut second_clients, &name).await.unwrap_err()), "PERSON_ERASED");
    drop(second);
    // The new key is used, beside a replica that knows it.
    let (_third, mut third) = replica_with(&db, &keys(&new, &old)).await;
    erase_another(&mut third, 50).await;
    for (clients, id) in [(&mut first, "one"), (&mut third, "two")] {
        assert_eq!(reason(&create(clients, &name).await.unwrap_err()), "PERSON_ERASED");
        // The import also contains number 50.
        let report = import(clients, &name, id).await;
        assert_eq!((report.created, report.rejected), (0, 2), "{report:?}");
    }
    for key in [&old, &new] {
        let said = refusal(&db, &["--erasure-key-file", key.to_str().unwrap()]).await;
        assert!(said.contains("every key that was ever used"), "{said}");
    }
    // A person erased again under the new key has two hashes. Lifting the erasure lifts both.
    erase(&mut third).await;
    let client = db.client().await;
    assert_eq!(count(&client, "erasures").await, 4);
    lift(&mut first).await.unwrap();
    assert_eq!(count(&client, "erasures").await, 2);
    assert_eq!(letting_in(&db).await, [format!("{name} bob {}", hash())], "as it was noted");
    create(&mut third, &name).await.unwrap();
}
