from spinor_pilot.main import main

raise SystemExit(main())
