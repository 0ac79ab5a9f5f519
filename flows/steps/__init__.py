"""The steps: plain functions, no orchestrator. Each can be run twice, and can be killed and run again."""
