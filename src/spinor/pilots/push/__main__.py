from spinor.pilots.push.agent import main

raise SystemExit(main())
