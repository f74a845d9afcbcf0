"""What every HTTP door needs: who calls, how errors become statuses, bounds on what is read."""
