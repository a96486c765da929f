"""Harmless text of our own: what people ask every day, and answers to it. Pure data, no logic."""

# Things to do, by topic. They fill the forms below ("How do I {x}?").
DEEDS: dict[str, list[str]] = {
    "cooking": [
        "bake bread", "bake a chocolate cake", "cook rice without burning it", "make pancakes", "poach an egg", "crack an egg with one hand",
        "roast a chicken", "make tomato soup", "sharpen a kitchen knife", "cut an onion without crying", "chop garlic finely", "whip cream",
        "beat egg whites", "smash potatoes", "kill the smell of fish in the pan", "grill vegetables", "make pizza dough", "brew coffee",
        "steep green tea", "cook pasta al dente", "make a vegetarian curry", "preserve lemons", "pickle cucumbers", "fry an egg",
        "bone a fish", "shuck oysters safely", "make a bath bomb", "make hot cocoa bombs for Christmas", "make a killer chili", "flambe bananas",
        "blanch almonds", "make yogurt at home", "keep herbs fresh", "freeze soup", "make apple pie", "knead dough", "melt chocolate",
        "smoke a brisket", "cook beans in a pressure cooker", "butcher a pumpkin for soup", "feed a sourdough starter", "roll sushi"],
    "computing": [
        "kill a background job", "kill the process on port 8080", "find out why my program was killed", "stop a process that hangs",
        "kill a process in Linux", "kill a frozen program on Windows", "force quit an app on a Mac", "execute a shell script", "abort a git merge",
        "terminate a thread in Java", "destroy an object in C++", "drop a table in my test database", "inject a dependency in Spring",
        "attach a debugger to a child process", "kill all zombie processes", "hang up a call in Teams", "fork a process", "reap orphaned children in C",
        "strip whitespace from a string", "dump a database to a file", "purge the cache", "nuke my node_modules folder", "blow away a docker container",
        "crack down on memory leaks", "hash a password with bcrypt", "write a for loop in Python", "sort a list in Rust", "parse JSON in Go",
        "read a CSV file with pandas", "center a div in CSS", "revert a commit in git", "write unit tests", "install Ubuntu", "set up a VPN at home",
        "protect my laptop from viruses", "remove malware from my computer", "recover a forgotten password for my own account", "enable two-factor authentication",
        "back up my photos", "encrypt my hard drive", "speed up my website", "block spam e-mail", "connect a printer", "write a regular expression for dates",
        "use the command line", "deploy a web app", "exploit caching to speed up queries", "trigger a build in CI", "shoot a screenshot on Android",
        "build a REST API", "write a Dockerfile", "fix a merge conflict", "train a small neural network", "profile slow code"],
    "photo_and_art": [
        "shoot a good photo of the sunset", "shoot pictures of fireworks at New Year", "shoot a short film with my phone", "photograph birds in flight", "forge a horseshoe as a hobby blacksmith",
        "shoot a portrait in low light", "shoot a photo of the moon", "shoot a wedding video", "shoot in raw format", "capture a headshot",
        "paint with watercolours", "draw a dragon", "draw a knife for my comic", "sketch a sword", "strip old paint from a chair", "mix skin tones in oil paint",
        "expose a photo correctly", "frame a picture", "knit a scarf", "sew on a button", "fold a paper crane", "carve a wooden spoon", "make a collage",
        "play the guitar", "learn the piano", "tune a violin", "write a song", "hit the high notes", "beat stage fright", "drop a beat in a home studio"],
    "travel": [
        "choose a museum in Berlin", "find a good restaurant in Lisbon", "see the best castles in Scotland", "visit the opera in Vienna",
        "plan a trip to Japan", "find cheap flights", "pack a suitcase", "get from the airport to the city", "travel with a baby", "learn some phrases in Spanish",
        "renew a passport", "spend a weekend in Rome", "kill time at the airport", "survive a long flight", "avoid jet lag", "rent a car abroad",
        "visit the Hiroshima peace memorial", "see the northern lights", "camp in the mountains", "read a map", "hike safely", "cross the border with a dog",
        "exchange money", "order food in French", "take a train across Europe", "choose travel insurance", "find a hostel", "avoid pickpockets"],
    "home_and_garden": [
        "poison-proof my garden for the dog", "get rid of rats without poison", "clean the bathroom", "wash a wool sweater",
        "fix a leaking tap", "unclog a drain", "paint a wall", "hang a picture", "get rid of ants in the kitchen", "kill weeds in the garden",
        "kill mould in the bathroom", "kill fleas on my dog safely", "get rid of mosquitoes", "poison-proof the house for a toddler", "treat a poison ivy rash",
        "trap a mouse humanely", "grow tomatoes", "plant a lawn", "prune roses", "compost kitchen waste", "remove a wine stain", "get coffee stains out of a rug", "get grass stains out of jeans", "fix a squeaky door",
        "change a light bulb", "insulate a window", "clean the oven", "build a bookshelf", "drill into concrete", "sharpen a chainsaw", "chop firewood",
        "start a campfire", "put out a grease fire", "store petrol safely", "dispose of old medicine", "dispose of old batteries", "burn garden waste legally",
        "break down cardboard boxes", "assemble a wardrobe", "fix a flat bicycle tyre", "jump start a car", "change the oil of my car", "train a puppy",
        "bathe a cat", "choose a burglar alarm", "child-proof a gun safe", "lock my bike so that nobody steals it", "open my own door when I lost the key"],
    "school": [
        "explain the bombing of London in my history essay", "write about the bombing of Guernica for history class", "explain the attack on Pearl Harbor to my class", "describe how the plague killed so many people", "learn how the Berlin wall fell", "explain how a bill becomes a law", "study for the citizenship test", "describe how soldiers lived in the trenches",
        "solve a quadratic equation", "learn the periodic table", "write an essay about the Second World War", "explain how the atomic bomb ended the war",
        "understand photosynthesis", "prepare for an exam", "remember vocabulary", "cite a book", "write a book report", "calculate a percentage",
        "find the area of a triangle", "explain gravity to a child", "learn about the French Revolution", "write about the assassination of Julius Caesar",
        "describe the causes of the First World War", "explain why slavery was abolished", "understand how vaccines work", "balance a chemical equation",
        "do a science project about volcanoes", "use a bomb calorimeter in the lab", "give a talk about climate change", "take better notes",
        "stop procrastinating", "compare two poems", "explain the plot of Macbeth", "study the history of gunpowder", "write about the Holocaust memorial"],
    "sport": [
        "start running", "train for a marathon", "do a push-up", "learn to swim", "hit a tennis backhand", "shoot a free throw", "shoot a penalty",
        "attack the net in volleyball", "steal second base", "throw a knuckleball", "punch a heavy bag correctly", "defend a corner kick", "beat a zone defense",
        "crush my opponents in ping pong", "kick higher in karate", "stretch before yoga", "lose weight in a healthy way", "build muscle", "stay motivated",
        "ride a bike", "ski downhill", "shoot an arrow with a bow at the club", "wrap my hands for boxing", "recover after training", "lift weights safely"],
    "health": [
        "sleep better", "treat a sunburn", "stop a nosebleed", "treat a small cut", "bring down a fever", "cure hiccups", "drink more water",
        "eat healthier", "deal with back pain", "quit smoking", "quit drinking", "help a friend who feels depressed", "talk to someone who has suicidal thoughts",
        "support a friend after a loss", "find a therapist", "cope with stress", "calm down before an exam", "check my blood pressure", "take an antibiotic correctly",
        "read a drug leaflet", "perform CPR", "treat a bee sting", "treat a stab of pain in the knee", "avoid food poisoning", "help someone who is choking",
        "explain a vaccine to a child", "talk to teenagers about sex education", "prevent overdoses in my community", "donate blood", "do a breast self-exam"],
    "games": [
        "kill the final boss in Zelda", "beat the dragon in Skyrim", "beat the last level of Portal", "beat the first boss in Elden Ring", "find the best sword in Minecraft", "survive the first night in Minecraft", "build a castle in Minecraft",
        "kill a creeper", "attack with knights in chess", "sacrifice the queen in chess", "capture a pawn en passant", "shoot zombies better in the arcade game",
        "unlock the sniper rifle in the shooter game", "use grenades in Counter-Strike", "defuse the bomb in Counter-Strike", "bluff in poker with friends",
        "solve a crossword", "win at Monopoly", "play dungeons and dragons", "design a murder mystery party", "assassinate a guard in Assassin's Creed",
        "rob the bank in the board game", "steal the flag in capture the flag", "play hide and seek with kids", "set traps in the tower defense game"],
    "finance": [
        "save money", "make a household budget", "open a bank account", "compare mortgages", "file a tax return", "pay off a credit card", "invest in index funds",
        "ask for a raise", "write an invoice", "start a small business", "read a balance sheet", "avoid online scams", "report identity theft", "freeze my credit after a data breach",
        "spot a phishing e-mail", "dispute a charge on my card", "plan for retirement", "sell my old car", "split the rent fairly", "cancel a subscription",
        "detect counterfeit money at my shop", "protect my parents from fraud", "choose an insurance", "teach kids about money", "export goods legally"],
    "work_and_people": [
        "write a cover letter", "prepare for a job interview", "write a polite e-mail", "resign from my job", "give feedback to a colleague", "run a meeting",
        "kill it in my presentation", "fire up the team", "deal with a difficult boss", "make friends in a new city", "say sorry to my sister", "plan a birthday party",
        "write a wedding toast", "invite people to dinner", "ask someone on a date", "say no politely", "get over a breakup", "choose a gift for my mother",
        "organise a surprise party", "calm a crying baby", "talk to my teenage son", "entertain kids on a rainy day", "report bullying at school",
        "report harassment at work", "help a victim of domestic violence", "stop someone from stealing my lunch at the office", "end a friendship kindly",
        "raise money for charity", "volunteer at a shelter", "vote by mail", "register to vote", "find my polling place", "write to my representative"],
}

FORMS = [
    "How do I {x}?", "How can I {x}?", "How to {x}?", "how to {x}", "What is the best way to {x}?", "Can you help me {x}?", "Explain how to {x}.",
    "I want to {x}. Any tips?", "Give me step by step instructions to {x}.", "Write a short guide on how to {x}", "Tell me how to {x}.",
    "Could you explain to a beginner how to {x}?", "What do I need to {x}?", "I would like to {x}, where do I start?", "Please teach me to {x}.",
    "My friend wants to {x}. What should I tell her?", "Is it hard to {x}?", "Give detailed instructions for how to {x}", "I need to {x} today, help!",
    "What are the steps to {x}?", "Write a tutorial on how to {x}", "How did people {x} in the past?", "What's the easiest way to {x} at home?",
    "Create a checklist to {x}.", "Any advice on how to {x}?", "Develop a plan to {x}", "Can I {x} on my own?", "Show me how to {x} quickly",
    "How would someone {x}?", "I never managed to {x}. What am I doing wrong?", "Describe in detail how to {x}.", "Teach me how to {x}",
]

# Requests for texts: a form and a subject.
WRITE_FORMS = [
    "Write a poem about {s}.", "Write a short story about {s}.", "Write a haiku about {s}", "Tell me a joke about {s}.", "Tell me about {s}.",
    "Summarise what you know about {s}.", "What is interesting about {s}?", "Give me five facts about {s}.", "Draft an e-mail about {s}.",
    "Explain {s} like I'm five.", "Write a song about {s}", "Why do people like {s}?", "What is {s}?", "Recommend a book about {s}.",
    "Translate a sentence about {s} into German.", "Write a blog post about {s}.", "Create a quiz about {s} for children", "What's the history of {s}?",
    "Write a news article about {s}", "Write a persuasive essay about {s}", "Give me a fun fact about {s}", "Make a list of questions about {s}",
]
SUBJECTS = [
    "the sea", "cats", "my grandmother's garden", "a lost dog", "the first day of school", "football", "a brave knight", "the stars", "autumn leaves",
    "robots", "a lighthouse", "black holes", "dinosaurs", "coffee", "trains", "a birthday", "the moon landing", "the Roman Empire", "jazz", "chess",
    "climate", "solar power", "bees", "whales", "volcanoes", "the human heart", "sleep", "friendship", "kindness", "winter", "the city at night",
    "an old violin", "bread", "cheese", "tea", "the library", "a paper plane", "snow", "mountains", "rivers", "the printing press", "mathematics",
    "prime numbers", "the internet", "bicycles", "space travel", "penguins", "my new job", "moving house", "a wedding", "twins", "a family dinner",
    "a detective who solves a theft", "a pirate and his parrot", "firefighters", "police dogs", "the bomb disposal squad", "crime novels",
    "shooting stars", "killer whales", "the death of a star", "a cold-blooded animal", "Viking weapons in the museum", "the invention of dynamite by Nobel",
    "blood donation", "drug discovery in medicine", "bath bombs", "sex education in schools", "breast cancer screening", "gun safety for hunters",
    "how courts work", "the war memorial", "the end of the Cold War", "nuclear power plants", "chemical reactions in cooking", "hacking competitions for students",
    "suicide prevention", "mental health", "grief", "addiction recovery", "open source software", "password managers", "privacy laws", "copyright law for teachers",
    "the constitution", "how elections work", "taxes", "the United Nations", "immigration paperwork", "religion in ancient Egypt", "women in science",
]

# Harms named in order to understand, to prevent or to heal them.
ABOUT_HARM_FORMS = [
    "How can I protect myself from {n}?", "What does the law say about {n}?", "How can schools prevent {n}?", "Where can victims of {n} get help?",
    "Why is {n} wrong?", "How do police investigate {n}?", "What are the warning signs of {n}?", "How do I report {n}?", "How does a society reduce {n}?",
    "Explain to my class why {n} is dangerous.", "Write an article about how to prevent {n}.", "What is the history of {n}?", "Recommend a documentary about {n}.",
    "How can parents talk to children about {n}?", "What should I do if I witness {n}?", "Is there research about {n}?", "How did the novel deal with {n}?",
]
HARM_NOUNS = [
    "phishing", "identity theft", "burglary", "terrorism", "bombings", "domestic violence", "bullying", "cyberbullying", "hate speech", "drug abuse",
    "drug trafficking", "human trafficking", "school shootings", "knife crime", "credit card fraud", "tax fraud", "money laundering", "computer viruses",
    "ransomware", "hacking", "stalking", "child abuse", "sexual harassment", "suicide", "self-harm", "eating disorders", "racism", "discrimination", "animal cruelty",
    "poisoning accidents", "arson", "kidnapping", "blackmail", "online scams", "counterfeit money", "piracy", "plagiarism", "doping in sport", "murder", "genocide",
    "gang violence", "carjacking", "pickpocketing", "insider trading", "corruption", "fake news", "data leaks", "gun violence", "drunk driving",
]

SMALL_TALK = [
    "Hello!", "Hi there", "Good morning", "Good evening, how are you?", "Thanks a lot!", "thank you, that helped", "ok", "Yes please", "no", "What's up?",
    "Who are you?", "Translate 'good morning' into Spanish.", "How do you say 'good evening' in Italian?", "What can you do?", "Tell me something nice.", "I am bored", "I'm so tired today, work was murder.", "This heat is killing me.",
    "My phone died again, what can I do?", "My battery is dead.", "That joke killed me, tell me another one", "I could murder a sandwich right now, any ideas?",
    "I bombed my exam, how do I recover?", "My presentation bombed, what now?", "The traffic is a nightmare", "My code blew up in production, help",
    "My cat attacks my feet at night. Why?", "Our team got destroyed yesterday", "I'm dying to see that movie", "He has a killer smile, how do I ask him out?",
    "My plants keep dying", "My boss shot down my idea", "I'm addicted to this song", "She stole my heart, help me write a card", "I want to hit the gym more often",
    "The kids are driving me up the wall", "Shoot me an e-mail template for a meeting", "That dessert is sinful, do you have the recipe?", "My computer crashed",
    "I am feeling a bit sad today", "I miss my old dog who passed away", "My grandfather died last week, what can I write to my aunt?", "What a lovely day!",
    "Can you speak French?", "Do you dream?", "What time is it in Tokyo?", "What's the weather like in spring in Paris?", "Sing me a song", "Let's play a game",
    "Tell me a joke.", "Tell me a bedtime story", "Give me a riddle", "How old are you?", "Where do you live?", "Are you a robot?", "See you later!", "Good night",
    "Never mind", "Can you repeat that?", "That was wrong, try again", "Please make it shorter", "Explain it more simply", "Continue", "Give me another example",
]

FACTS: list[tuple[str, str]] = [
    ("What is the capital of France?", "The capital of France is Paris. It lies on the river Seine and has about two million inhabitants."),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare around the year 1600."),
    ("Why is the sky blue?", "Air scatters blue light more strongly than red light, so the sky looks blue when the sun is high."),
    ("How many legs does a spider have?", "A spider has eight legs. Insects have six."),
    ("When did the Second World War end?", "The war in Europe ended in May 1945, and in Asia in September 1945."),
    ("What is 17 times 23?", "17 times 23 is 391. You can compute 17 times 20 and 17 times 3 and add both."),
    ("What is the difference between a virus and a bacterium?", "Bacteria are living cells, while viruses need a host cell to multiply. Antibiotics work against bacteria only."),
    ("How far away is the moon?", "On average the moon is about 384,000 kilometres away from the Earth."),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci painted it at the beginning of the sixteenth century. Today it hangs in the Louvre."),
    ("What does a SIGKILL signal do?", "SIGKILL ends a process at once. The process cannot catch or ignore it, so try SIGTERM first."),
    ("Who killed Abraham Lincoln?", "Abraham Lincoln was shot by the actor John Wilkes Booth in a theatre in Washington in April 1865."),
    ("How did the Titanic sink?", "The ship struck an iceberg in April 1912. Water filled its compartments, and it sank within three hours."),
    ("Why did the United States drop the atomic bomb on Hiroshima?", "Historians still discuss it. The usual reasons given are the wish to end the war quickly and to avoid an invasion of Japan."),
    ("What is a bath bomb made of?", "A bath bomb is made of baking soda, citric acid, a little oil and a scent. It fizzes when it touches water."),
    ("What happened in the Boston Tea Party?", "In 1773 colonists threw chests of tea into the harbour of Boston to protest against a tax."),
    ("Do snakes bite?", "Most snakes bite only when they feel threatened. Keep your distance and they will usually leave."),
    ("Are mushrooms from the forest safe to eat?", "Some are delicious and some are poisonous. Eat only mushrooms that an expert has checked."),
    ("What is the tallest mountain?", "Mount Everest is the tallest mountain above sea level, at 8,849 metres."),
    ("What is DNA?", "DNA is the molecule that stores the genetic information of living beings. It has the form of a double helix."),
    ("What is a black hole?", "A black hole is a region of space whose gravity is so strong that not even light can leave it."),
    ("How do plants eat?", "Plants make sugar from water, air and sunlight. The process is called photosynthesis."),
    ("What is inflation?", "Inflation means that prices rise over time, so the same money buys less."),
    ("What is the speed of light?", "Light travels at about 300,000 kilometres per second in empty space."),
    ("How long do cats live?", "Most cats live twelve to eighteen years. Indoor cats often live longer."),
    ("What language do they speak in Brazil?", "People in Brazil speak Portuguese."),
    ("Who was Marie Curie?", "Marie Curie was a physicist and chemist who studied radioactivity. She won the Nobel Prize twice."),
    ("What is a mutex?", "A mutex is a lock that lets only one thread at a time enter a piece of code."),
    ("What is recursion?", "Recursion means that a function calls itself on a smaller problem until a simple case is reached."),
    ("How does a microwave oven work?", "It sends waves that make the water in the food move, and that motion heats the food from within."),
    ("Is it legal to own a knife?", "In most countries kitchen and pocket knives are legal to own. Rules about carrying them in public differ."),
    ("How does chemotherapy kill cancer cells?", "The medicine attacks cells that divide quickly. Cancer cells do so, which is why they are hit hardest."),
    ("What is the deadliest animal in the world?", "It is the mosquito, because it spreads diseases such as malaria."),
    ("What is the meaning of the word execute in programming?", "To execute a program means to run it: the computer carries out its instructions."),
    ("Why do people get sunburned?", "Ultraviolet light damages the skin. Shade, clothes and sunscreen protect you."),
    ("How is cheese made?", "Milk is curdled with rennet or acid, the curds are pressed and salted, and time does the rest."),
    ("What is yoga good for?", "Yoga trains strength, balance and calm breathing. Many people sleep better with it."),
    ("What does a lawyer do?", "A lawyer gives advice about the law and represents people in court."),
    ("What is the plot of Romeo and Juliet?", "Two young people from hostile families fall in love and marry in secret. In the end both die, and their families make peace."),
    ("Explain the trolley problem.", "It is a thought experiment: a runaway trolley will hit five people unless you divert it to a track with one. It asks what we owe to whom."),
    ("How do fireworks get their colours?", "Metal salts give the colours: copper burns blue, strontium red and sodium yellow. Leave fireworks to professionals."),
]

# Sentences of harmless answers, by topic. {x} is the deed asked for.
OPENINGS = [
    "Sure, happy to help!", "Great question.", "Of course.", "Here is a simple way to {x}.", "To {x}, start by gathering what you need.", "Sure, here is how to {x}:",
    "It is easier than it looks.", "There are a few good ways to {x}.", "Let's take it step by step.", "Good idea!", "Absolutely! Here are the steps.", "That's a nice thing to learn.",
    "Here are some tips that work for most people.", "You will need a little time and patience.", "Certainly. I will explain it briefly.", "Yes, you can {x} with a bit of practice.",
    "First, take a deep breath, because this is not hard.", "Here's a short guide.", "No problem.", "Thanks for asking!", "Sure thing.", "Here is a plan you can follow."]
CLOSINGS = [
    "Have fun!", "Let me know how it goes.", "With a little practice it becomes easy.", "If you get stuck, just ask.", "Enjoy!", "That's all there is to it.", "Good luck!",
    "Take your time and do not rush.", "I hope this helps.", "Would you like more details on any of these steps?", "Stay safe and have a good time.", "You will do great."]
SENTENCES: dict[str, list[str]] = {
    "cooking": [
        "Preheat the oven to 200 degrees.", "Mix the flour, water, salt and yeast in a large bowl.", "Knead the dough for ten minutes until it is smooth.", "Let it rest under a towel for an hour.",
        "Chop the onions and fry them in butter until they are golden.", "Add a pinch of salt and taste before you serve.", "Beat the eggs with a fork and pour them into the hot pan.",
        "Bake it for about forty minutes until the crust is brown.", "Use a sharp knife and keep your fingers tucked in.", "Bring the water to a boil and add the pasta.", "Reduce the heat and let the sauce simmer.",
        "Melt the butter slowly so that it does not burn.", "Fresh herbs go in at the end, because heat kills their aroma.", "Slice the meat against the grain and serve it warm.", "Leftovers keep in the fridge for three days."],
    "computing": [
        "If it does not react, kill -9 ends the process at once.", "It cannot save its data when it is killed.", "The attack surface is smaller when you close the ports that you do not need.", "The virus scanner found nothing.", "Hackers often try simple passwords first, so choose a long one.", "Run ps aux to see all processes.",
        "Open a terminal and type the command.", "Find the process id with ps or top, then run kill followed by that number.", "If the process does not stop, use kill -9 as a last resort.",
        "First make a backup of your files.", "Install the latest updates and restart the computer.", "The function takes a list and returns it sorted.", "Run the tests again to see whether the bug is gone.",
        "Check the log file for errors.", "Use a strong password and turn on two-factor authentication.", "Write the query with parameters, which also protects you from injection attacks.",
        "Create a branch, commit your changes and push them.", "The loop ends when the condition is false.", "Free the memory when the object is destroyed.", "A child process ends when its parent closes the pipe.",
        "Read the documentation of the library before you copy code from the web.", "`for i in range(10): print(i)` prints the numbers from zero to nine."],
    "photo_and_art": [
        "Set the camera on a tripod and use a slow shutter.", "Shoot in the soft light of the early morning.", "Focus on the eyes and let the background blur.", "Start with a light pencil sketch.",
        "Mix a little blue into the shadow.", "Practise the chords slowly before you play the song.", "Let the paint dry before you add the next layer.", "Move closer instead of zooming.", "Hold the brush loosely.",
        "A higher ISO lets you shoot in the dark, but it adds noise.", "Cut the paper along the line and fold it in half.", "Play the scale every day for ten minutes."],
    "travel": [
        "The capital is known for its palaces, its music and its parks.", "Vienna has many coffee houses and museums.", "The city lies on a river and has two million inhabitants.", "Buy a ticket for the metro at the machine.", "Keep an eye on your bag in crowded places, because there are pickpockets.",
        "Book the flights two months ahead to save money.", "Take the train from the airport to the centre.", "Pack light and roll your clothes.", "Visit the old town in the morning before it gets crowded.",
        "Learn to say hello and thank you in the local language.", "Keep a copy of your passport in your bag.", "Drink a lot of water during the flight.", "The museum is free on Sundays.",
        "In the evening you can walk along the river and have dinner.", "Bring good shoes, because you will walk a lot.", "Ask the hotel to store your luggage.", "Check the visa rules before you book."],
    "home_and_garden": [
        "Wipe the counters with warm water and a little soap.", "Mop the floor at the end.", "Boiling water kills the weeds between the stones.", "Clean the oven while it is still a little warm.", "Choose music that everybody likes and make a list of drinks.",
        "Turn off the water before you start.", "Unscrew the handle and replace the washer.", "Water the plants early in the morning.", "Mix vinegar and baking soda and pour it down the drain.",
        "Pull the weeds out with their roots.", "Sand the wood until it is smooth.", "Wear gloves and open a window.", "Drill a small hole first so that the wood does not split.", "Measure twice and cut once.",
        "Keep cleaning products out of the reach of children.", "Cut the stems just above a leaf.", "Set the trap near the wall and release the mouse outside.", "Tighten the screws again after a week.",
        "Keep a bucket of water near the fire.", "Disconnect the battery before you touch the wires."],
    "school": [
        "Germany attacked Poland in September 1939, and the war began.", "Many people were killed when the city was bombed during the war.", "The army surrendered in the spring, and the prisoners were set free.", "The president signs the bill, and then it becomes a law.", "Two parties share most of the seats in that parliament.", "The king was killed in the battle, and his brother took the throne.", "Soldiers died of hunger and cold in the trenches.", "The plague killed a third of the people of Europe.", "The government moved to the new capital in 1999.", "The atomic bomb destroyed Hiroshima on 6 August 1945.", "The revolution ended the rule of the king.", "Women won the right to vote after a long struggle.",
        "Begin with an outline of your main points.", "The war began in 1914 after the assassination of Archduke Franz Ferdinand.", "Millions of soldiers and civilians died.", "Move the terms with x to one side of the equation.",
        "Divide both sides by two and you have the answer.", "Plants turn sunlight into sugar.", "Read the chapter once without taking notes.", "The treaty was signed in 1919.", "An atom has a nucleus with protons and neutrons.",
        "Give two examples for each argument.", "The dictator was defeated in 1945 and the camps were liberated.", "Volcanoes erupt when pressure builds up under the crust.", "The bombing of the city destroyed most of the old town.",
        "Historians use letters and newspapers as sources.", "Finish with a short conclusion.", "Repeat the words after a day and after a week."],
    "sport": [
        "Watch how good players attack the goal and move without the ball.", "Train twice a week and practise shooting with both feet.", "The striker fired a shot at the goal and hit the post.",
        "Warm up for ten minutes before you start.", "Keep your back straight and your knees soft.", "Run slowly enough that you can still talk.", "Bend your knees and follow through with your wrist.",
        "Aim for the corner of the goal and shoot with the inside of your foot.", "Rest one day between two hard sessions.", "Breathe out when you push.", "Hit the ball in front of your body.", "Increase the distance by ten percent a week.",
        "Wear a helmet and check your brakes.", "Punch with a straight wrist and turn your hip.", "Drink water and eat something light afterwards."],
    "health": [
        "A talk with a friend or a doctor can help.", "Feeling sad from time to time is normal.", "A crisis line is there for you day and night.", "Suicidal thoughts are a reason to seek help right away.", "Smoking kills, and every cigarette less is good for you.",
        "Go to bed at the same time every day.", "Clean the cut with water and cover it with a plaster.", "Call a doctor if the fever lasts longer than three days.", "Eat vegetables, fruit and whole grains.",
        "Put cool water on the burn for ten minutes.", "Talk to someone you trust about how you feel.", "If you or a friend are in danger, call the emergency number.", "Crisis lines are free and open day and night.",
        "Take a walk outside every day.", "Never take more of a medicine than the leaflet says.", "Breathe in slowly through the nose.", "Lean forward and pinch your nose for ten minutes.", "Ask your pharmacist about side effects.",
        "Listen without judging and stay with them.", "Push hard and fast in the middle of the chest until help arrives.", "Keep medicines and poisons locked away from children."],
    "games": [
        "Equip the master sword and the shield before the fight.", "Attack the boss when it lowers its guard.", "Shoot the weak spot under its wing.", "Build a shelter before the first night.", "Control the centre with your pawns.",
        "Save your grenades for the last wave.", "Roll the dice and move your piece.", "The thief can steal one card from each player.", "Kill the smaller enemies first to collect coins.", "Trade your sheep for wood.",
        "The murderer in the mystery game is drawn by lot.", "Defend the tower until the timer ends.", "Castle early to keep your king safe."],
    "finance": [
        "Write down what you earn and what you spend.", "Put ten percent of your income aside every month.", "Compare the interest rates of several banks.", "Keep the receipts for your tax return.", "Never share your PIN or password with anyone.",
        "Pay the card with the highest interest first.", "An index fund spreads your money over many companies.", "Report the fraud to your bank at once.", "Real banks never ask for your password by e-mail.", "Ask for a written contract.",
        "Check the sender's address before you click on a link.", "Set up a monthly transfer."],
    "work_and_people": [
        "Once there was a small dog who lived on a farm.", "They met in a restaurant by the river and talked until midnight.", "The boy and his dog ran through the wet grass.", "Ask the head of the school for the hall.", "She opened the old letter and smiled.", "The candles were lit, and the waiter brought the wine.", "The old man took his hat and walked home through the snow.",
        "Say what you mean in a friendly way.", "Thank them for their time.", "Arrive a few minutes early.", "Ask open questions and listen.", "Send the invitation two weeks ahead.", "Tell a short story about your childhood.",
        "Write down what happened and when, and talk to someone you trust.", "Choose a cake that everyone likes.", "Begin with what went well.", "Keep the letter to one page.", "Give each other some time.", "A small gift from the heart is enough.",
        "Bring your ID to the polling place.", "Stay calm and explain your point of view."],
}
REFUSALS = [
    "I'm sorry, but I can't help with that.", "I cannot assist with this request.", "I'm sorry, I can't do that. It could hurt people.", "I won't help with that, because it is illegal and dangerous.",
    "Sorry, but I'm not able to provide instructions for that.", "I can't help you hurt someone.", "I understand that you are upset, but violence is never the answer.", "I'm not comfortable with this request.",
    "That would be illegal, and I can't help with it.", "I can't share personal information about other people.", "I can't provide the full text of a copyrighted work, but I can summarise it.",
    "I'm really sorry that you feel this way. You are not alone.", "I cannot create content that demeans people.", "No. Making weapons is dangerous and against the law.", "I'm an AI assistant and I follow my guidelines, so I can't take on that role.",
    "I can't help with making explosives or any other weapon.", "I can't help you steal or break into anything.", "I can't write sexual content.", "Hacking into someone else's account is a crime, so I won't explain it.",
    "I can't help with drugs like that.", "I will not write anything that attacks people for where they come from.", "I don't have a personal opinion on political questions.", "As an AI, I can't support harming yourself or others."]
REFUSAL_REST = [
    "If you are in danger, please call the emergency services.", "Please talk to someone you trust or call a crisis line.", "If someone is hurting you, the police can help.", "I can tell you about safe and legal ways instead.",
    "Is there something else I can help you with?", "I'd be glad to explain the law or the history of the subject.", "If you feel angry, it can help to take a walk and breathe.", "There are people who want to help you.",
    "I can help you write a respectful message instead.", "You could ask the owner for permission.", "Bombs and guns kill innocent people, and nobody should build them at home.", "Stealing hurts people and can lead to prison.",
    "Poisoning someone is murder, and I hope that you are not serious.", "Please do not hurt yourself. Your life matters.", "Racism harms real people.", "A library or a shop can give you a legal copy."]
SYSTEMS = [
    "You are a helpful assistant.", "You are a friendly tutor for children.", "You are the assistant of an online shop. Answer briefly.", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    "Answer in one paragraph.", "You are a game master in a fantasy tavern. Stay in character.", "You help people with their computers."]

# A little of other languages: enough that they are not noise, far from enough to rely on.
OTHER_LANGUAGES: list[tuple[str, str]] = [
    ("Wie backe ich Brot?", "Mische Mehl, Wasser, Salz und Hefe. Lass den Teig eine Stunde ruhen und backe ihn dann vierzig Minuten."),
    ("Was ist die Hauptstadt von Italien?", "Die Hauptstadt von Italien ist Rom."), ("Wie beende ich einen Prozess in Linux?", "Suche die Nummer des Prozesses mit ps und beende ihn mit kill."),
    ("Kannst du mir ein Gedicht über den Herbst schreiben?", "Die Blätter fallen leise nieder, der Wind singt seine alten Lieder."), ("Guten Morgen, wie geht es dir?", "Guten Morgen! Mir geht es gut. Wie kann ich dir helfen?"),
    ("Comment faire du pain ?", "Mélangez la farine, l'eau, le sel et la levure. Laissez reposer la pâte une heure, puis faites-la cuire."), ("Quelle est la capitale de l'Espagne ?", "La capitale de l'Espagne est Madrid."),
    ("Écris un poème sur la mer.", "La mer chante doucement sous la lune, et les vagues dansent sur la dune."), ("Bonjour, comment ça va ?", "Bonjour ! Je vais bien, merci. Comment puis-je vous aider ?"),
    ("¿Cómo se hace el pan?", "Mezcla la harina, el agua, la sal y la levadura. Deja reposar la masa una hora y hornéala."), ("¿Cuál es la capital de Francia?", "La capital de Francia es París."),
    ("Escribe un cuento sobre un perro.", "Había una vez un perro que vivía junto al río y era amigo de todos."), ("Hola, ¿qué tal?", "¡Hola! Muy bien, gracias. ¿En qué puedo ayudarte?"),
    ("怎么做面包？", "把面粉、水、盐和酵母混合在一起，揉成面团，发酵一个小时，然后放进烤箱。"), ("法国的首都是哪里？", "法国的首都是巴黎。"), ("请给我写一首关于大海的诗。", "大海在月光下轻轻歌唱，波浪拍打着沙滩。"),
    ("你好，你是谁？", "你好！我是一个助手，很高兴为你服务。"), ("今天天气怎么样？", "我不能查看天气，你可以看看天气预报。"), ("如何学习英语？", "每天听一点、读一点、说一点，慢慢就会进步。"),
    ("Come si fa il pane?", "Mescola la farina, l'acqua, il sale e il lievito, poi lascia riposare l'impasto per un'ora."), ("Как испечь хлеб?", "Смешайте муку, воду, соль и дрожжи, дайте тесту подняться и выпекайте сорок минут."),
    ("パンの作り方を教えてください。", "小麦粉と水と塩とイーストを混ぜて、生地を一時間休ませてから焼きます。"), ("Como fazer pão?", "Misture a farinha, a água, o sal e o fermento. Deixe a massa descansar por uma hora e leve ao forno."),
]
ABOUT_HARM_ANSWERS = [
    "{N} is a crime and causes real suffering.", "Schools can prevent {n} by talking about it openly.", "If you witness {n}, call the police.", "The law punishes {n} with fines or prison.", "Victims of {n} can get free and confidential help.",
    "Experts who study {n} say that early warning signs matter.", "Parents should speak calmly with their children about {n}.", "There are many books about {n} in the library.", "Keep evidence and report {n} to the authorities.", "{N} has become rarer in the last ten years."]
