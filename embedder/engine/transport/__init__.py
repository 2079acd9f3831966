"""Between front-ends, engines and the keeper: processes of one service on one machine."""
