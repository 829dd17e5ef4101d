import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import software.amazon.event.ruler.Machine;

/**
 * Answers each line "policy TAB event" with what event-ruler decides: "yes", "no", "refused: why" for a policy it does
 * not compile, or "invalid" for an event it does not parse. Two answers, for its two ways of matching: the one it has
 * had from the start, and the one of 2.0.
 */
public final class Policies {

  public static void main(String[] args) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      int tab = line.indexOf('\t');
      String policy = line.substring(0, tab);
      String event = line.substring(tab + 1);
      out.println(answer(policy, event, false) + "\t" + answer(policy, event, true));
    }
    out.flush();
  }

  private static String answer(String policy, String event, boolean structured) {
    Machine machine = Machine.builder().withStructuredMatching(structured).build();
    try {
      machine.addRule("policy", policy);
    } catch (Exception error) {
      return "refused: " + String.valueOf(error.getMessage()).split("\n")[0];
    }
    try {
      return machine.rulesForJSONEvent(event).isEmpty() ? "no" : "yes";
    } catch (Exception error) {
      return "invalid";
    }
  }
}
