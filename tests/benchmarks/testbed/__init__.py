"""The installations, references and rounds of load that figures run on."""
