//! Commands of the API's methods. Every method has one. Except: the workers' stream.

/// Methods, each with the words of its command.
const COMMANDS: &[(&str, &str)] = &[
    ("CampaignService/CreateCampaign", "campaigns create"),
    ("CampaignService/GetCampaign", "campaigns get"),
    ("CampaignService/ListCampaigns", "campaigns list"),
    ("CampaignService/UpdateCampaign", "campaigns update"),
    ("CampaignService/DeleteCampaign", "campaigns delete"),
    ("CampaignService/PreviewLaunch", "campaigns preview"),
    ("CampaignService/LaunchCampaign", "campaigns launch"),
    ("CampaignService/PauseCampaign", "campaigns pause"),
    ("CampaignService/ResumeCampaign", "campaigns resume"),
    ("CampaignService/CancelCampaign", "campaigns cancel"),
    ("CampaignService/GetCampaignProgress", "campaigns progress"),
    ("CampaignService/WatchCampaign", "watch"),
    ("CampaignService/ListRuns", "campaigns runs"),
    ("CampaignService/ListAuditEvents", "campaigns audit"),
    ("ContactService/ImportContacts", "contacts import"),
    ("ContactService/GetImport", "contacts get-import"),
    ("ContactService/CreateContact", "contacts add"),
    ("ContactService/GetContact", "contacts get"),
    ("ContactService/ListContacts", "contacts list"),
    ("ContactService/UpdateContact", "contacts update"),
    ("ContactService/DeleteContact", "contacts delete"),
    ("ContactService/GetContactHistory", "contacts history"),
    ("ContactService/ExplainContact", "contacts explain"),
    ("ContactService/AddSuppressions", "suppressions add"),
    ("ContactService/RemoveSuppression", "suppressions remove"),
    ("ContactService/GetSuppression", "suppressions get"),
    ("ContactService/ListSuppressions", "suppressions list"),
    ("ContactService/ErasePerson", "contacts erase"),
    ("InteractionService/RecordInteractions", "interactions record"),
    ("InteractionService/RouteInbound", "interactions route-inbound"),
];

#[test]
fn every_method_has_a_command_and_every_command_exists() {
    use clap::CommandFactory;
    let pool = crate::json::pool().expect("the API's description");
    let methods: Vec<String> = pool
        .services()
        .filter(|service| service.full_name().starts_with("campaign.v1."))
        .flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods.into_iter().map(move |method| format!("{}/{}", service.name(), method.name()))
        })
        .filter(|method| method != "DispatchService/Dispatch")
        .collect();
    assert!(methods.len() > 25, "{methods:?}");
    for method in &methods {
        let rows = COMMANDS.iter().filter(|(name, _)| name == method).count();
        assert_eq!(rows, 1, "{method} must have one command");
    }
    for (method, words) in COMMANDS {
        assert!(methods.iter().any(|known| known == method), "there is no {method}");
        let mut command = crate::cli::Cli::command();
        for word in words.split(' ') {
            let found = command.find_subcommand(word);
            command = found.unwrap_or_else(|| panic!("{method}: there is no `{words}`")).clone();
        }
        assert!(!command.has_subcommands(), "{method}: `{words}` is no whole command");
    }
}
