// A host that may have loaded ONNX Runtime, from the path that it is given, before it opens a guard. Says which are mapped then.
using System;
using System.IO;
using System.Runtime.InteropServices;
using Qwenguard;

public static class Loaded
{
    private const int Now = 2;

    [DllImport("libdl.so.2")]
    private static extern IntPtr dlopen(string path, int flags);

    public static int Main(string[] arguments)
    {
        if (arguments.Length > 0 && dlopen(arguments[0], Now) == IntPtr.Zero)
        {
            Console.Error.WriteLine(arguments[0] + " cannot be loaded");
            return 1;
        }
        using (Guard.OpenNano())
        {
            foreach (string line in File.ReadAllLines("/proc/self/maps"))
            {
                if (line.Contains("/libonnxruntime."))
                {
                    Console.WriteLine("mapped: " + line.Substring(line.IndexOf('/')));
                }
            }
        }
        return 0;
    }
}
