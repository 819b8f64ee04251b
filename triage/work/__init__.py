"""How the work of a stage is queued and run; no stage knows which queue it runs on."""
