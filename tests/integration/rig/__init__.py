"""The rig: everything an integration test needs to run stock QEMUs and the faultline command."""
