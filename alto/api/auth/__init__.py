"""Who is calling: SigV4 signatures and the accounts behind them."""
